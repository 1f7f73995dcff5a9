"""Target `recipes`: a training job with AWS's recipe and image for a model of its hub."""
