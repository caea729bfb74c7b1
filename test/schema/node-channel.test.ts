import { expect, test } from 'vitest';
import { decodeNodeMessage, encodeNodeMessage } from '../../src/schema/node-channel.ts';

// Nodes of 0.1.0 send and expect these very texts.
test.each([
  ['released', { kind: 'released' }],
  [
    '6f1c1a3e-8f5b-4c39-9b0f-0d6c5b1c2d3e',
    { kind: 'marker', marker: '6f1c1a3e-8f5b-4c39-9b0f-0d6c5b1c2d3e' },
  ],
] as const)('%s on the wire is %j', (payload, message) => {
  expect(encodeNodeMessage(message)).toBe(payload);
  expect(decodeNodeMessage(payload)).toEqual(message);
});
