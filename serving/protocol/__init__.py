"""OpenAI's protocol: bodies of requests, and what answers them."""
