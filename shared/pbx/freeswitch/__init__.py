"""FreeSWITCH: event socket (ESL), call records (mod_json_cdr), routes (mod_xml_curl, mod_httapi)."""
