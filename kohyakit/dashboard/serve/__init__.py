"""The process behind the pages: the server, who may talk to it, and the trainings that it starts."""
