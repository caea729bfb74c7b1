/**
 * The messages that the nodes of an input send each other on a channel of their own. Anybody can send there too, so a message is
 * only ever a hint, upon which a node asks the database.
 *
 * The form on the wire is that of version 0.1.0, whose nodes listen on the same channel while a deployment rolls.
 */
export type NodeMessage =
  /** The lease was released: a standby may claim it now. */
  | { readonly kind: 'released' }
  /** A node sends itself a marker, to learn whether notifications arrive and how far they have come. */
  | { readonly kind: 'marker'; readonly marker: string };

const RELEASED = 'released';

export const encodeNodeMessage = (message: NodeMessage): string =>
  message.kind === 'released' ? RELEASED : message.marker;

export const decodeNodeMessage = (payload: string): NodeMessage =>
  payload === RELEASED ? { kind: 'released' } : { kind: 'marker', marker: payload };
