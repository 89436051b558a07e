"""The service's stand-in for the demo and the tests: a real HTTP server with real images.

Written from the service's page. It imports nothing of the client, so that the two cannot share a mistake.

=================  ==========================================================================================
``service``        the Python interface: start, fill, look at
``command``        ``imagefs emulator``
``demo_account``   an account with real images
``disks``          making these images
``server``         the listening socket, and a thread for each connection
``http1``          reading requests
``sending``        sending answers: rates, framings, cut connections
``site``           from a request to its answer
``wire``           the signature
``actions``        the seven actions of the page
``fetching``       downloads for ``image/fetch``
``plain``          plain GET, for other programs
``control``        switches, faults and ledger over HTTP
``switches``       behaviour that can be changed while it runs
``faults``         which call is struck by which fault
``fault_effects``  what each fault does
``ledger``         what was asked, and what became of it
``account``        the images, over time
``images``         one image
``image_table``    the images on disk
``content``        their bytes on disk
``answers``        answers as values
=================  ==========================================================================================
"""

from imagefs.emulator.faults import Fault
from imagefs.emulator.ledger import Call
from imagefs.emulator.service import Emulator, EmulatorError
from imagefs.emulator.switches import Switches

__all__ = ["Call", "Emulator", "EmulatorError", "Fault", "Switches"]
