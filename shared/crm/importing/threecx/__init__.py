"""3CX templates, XML, into our form."""
