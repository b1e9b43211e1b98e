"""
Routing rules: what one can say (`rule`, `conditions`, `places`, `hours`), what it means when two
values are compared (`values`, `patterns`), and what makes no sense (`reach`, `checks`). Pure.
"""
