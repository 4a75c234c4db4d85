"""OAuth 2.0, one file per RFC: requests and the reading of responses as pure functions, without I/O."""
