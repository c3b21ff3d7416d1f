"""A real local Airflow in a temporary folder: start it, run a DAG in it, watch the run, remove everything."""
