"""Apache Airflow provider for Amazon SageMaker Asynchronous Inference."""

__version__ = "0.1.0"
