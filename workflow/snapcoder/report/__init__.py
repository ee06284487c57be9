"""Tables and pictures in, pages out."""
