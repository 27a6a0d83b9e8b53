"""Policies replayed over history: what would each have done, what would it have cost, what would it have saved?"""
