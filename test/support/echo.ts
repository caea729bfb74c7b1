/** A program for the support's own test: says that it is there, then sends back whatever it is sent. */
process.on('message', (message) => process.send?.(message));
process.send?.('ready');
