"""The measurements of the server, one module for each kind."""
