"""Links: what two processes exchange messages by, for many ports both ways, over any channel.

The parts that read and write nothing are :mod:`~portkit.link.frames`, :mod:`~portkit.link.decoder`,
:mod:`~portkit.link.greeting` and :mod:`~portkit.link.flow`; :class:`Link` drives them.
"""
