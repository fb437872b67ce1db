"""A study in a folder: what is finished, put together so that the workflow of another clone goes on from there."""
