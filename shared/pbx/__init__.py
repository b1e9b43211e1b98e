"""PBXs: what they really send → call events; orders → what they really take."""
