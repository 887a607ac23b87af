"""The adapter to Azure: the only importer of azure.*; a folder a resource."""
