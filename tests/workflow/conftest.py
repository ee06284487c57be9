"""A fresh copy of the workflow for every test that asks for one."""
