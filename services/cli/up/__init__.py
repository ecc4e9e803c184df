"""`sspo up`: the embedded topology. Starts, supervises and ends every part of the service on one machine."""
