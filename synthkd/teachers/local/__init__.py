"""A transformers model on this machine as a teacher.

teacher      the teacher: what callers see
worker       the thread between an event loop and the decoder
translate    a request in the model's terms: its prompt's text, and a plan
decoding     many rows at a time
choosing     the next token of each row
kvcache      keys and values
loading      from a folder or the Hub into memory
fingerprint  which version of the weights a folder holds
"""

from synthkd.teachers.local.teacher import LocalTeacher

__all__ = ["LocalTeacher"]
