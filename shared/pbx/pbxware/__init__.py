"""PBXware, which asks us as its "Custom CRM"."""
