"""Any PBX that can send the documented JSON hook."""
