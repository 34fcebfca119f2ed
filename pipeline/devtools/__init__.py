"""Tools for trying the product out: a simulated OMS, a sample receiver, local brokers.

Never part of production. May use everything in `pipeline`.
Start reading in `simulator.py`.
"""
