"""The pages people use, in Gradio, on the same application as the API."""
