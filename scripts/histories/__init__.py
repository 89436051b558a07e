"""Random histories of an account on a real mount, each step of which is held against a plain model of the account.

=================== ===========================================================================
``__main__``        arguments, several histories side by side, the table at the end
``history``         one history: the steps that a seed stands for, and what broke
``rules``           the steps
``mounted_account`` the account, its mount and the model of both: what the steps are made of
``model``           what an account should hold, and under which names
``daemon``          the mount's process
``programs``        the programs that use the mount
=================== ===========================================================================
"""
