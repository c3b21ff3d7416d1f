"""The way in and out over HTTP: the server, its routes, its page and its refusals."""
