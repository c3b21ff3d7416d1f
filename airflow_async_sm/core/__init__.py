"""
The decisions, and nothing else.

What lives here imports the standard library and its own siblings only. It reads no clock, opens no file
and no socket, and knows neither Airflow nor boto3: time, random numbers and what was seen come in as
arguments.
"""
