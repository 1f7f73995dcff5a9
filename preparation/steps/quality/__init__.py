"""Rules of quality for web text and for answers, and the word splitter that they share."""
