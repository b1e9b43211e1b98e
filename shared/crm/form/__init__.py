"""
The form of a connector template. These models are the parser; the JSON Schema that editors use is
made from them. Pure: what a template says, not what is done with it.
"""
