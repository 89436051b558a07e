"""The fault campaign: readers and changers use a real mount while everything around it fails.

==================  ==================================================================================
``__main__``        the command line: ``scripts/chaos``
``scene``           what takes part: emulator, proxy, mount, images; made and cleared away
``proxy``           a TCP proxy between mount and service, and ``proxy_effects``, what it does to bytes
``daemon``          the mount's process: started, killed, stopped, limited, looked at
``injection``       errors of its system calls, by strace
``subjects``        images whose every version is known
``readers``         ways to read, each compared with what the image holds
``changers``        changes of the account, each accounted for
``clock``           every call against its deadline
``stalls``          programs that are run, and the longest time that each waited for one answer
``deck``            which round comes when
``tally``           what was struck, what was survived, which promise was broken; the table
``report``          what is printed at the end
``rounds``          one module for each kind of round; a round strikes, and looks at what comes of it
``soak``            a long run, with a look at memory, descriptors and threads
==================  ==================================================================================

Everything runs in one process with threads, but the mount, the tools and the readers of mappings.
"""
