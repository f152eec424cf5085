"""Register Hugging Face pipelines on your own S3 and run them over tables from Apache Airflow."""

__version__ = "0.1.0"
