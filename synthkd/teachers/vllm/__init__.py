"""Local vLLM teachers: a server that is started, watched and ended here, and asked like any other endpoint.

options   what the server is started with, as its command line
keeper    the small process that ends the server when the driver is gone, whatever the driver died of
reasons   from a server's log to why it did not start, and the cure
server    one server: start, health, end
teacher   the teacher, which starts a server when it is first asked
"""

from synthkd.teachers.vllm.options import VLLMOptions
from synthkd.teachers.vllm.teacher import VLLMTeacher

__all__ = ["VLLMOptions", "VLLMTeacher"]
