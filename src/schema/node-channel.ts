/**
 * The messages that the nodes of an input send each other on a channel of their own. Anybody can send there too, so a message is
 * only ever a hint, upon which a node asks the database.
 *
 * The form on the wire is that of version 0.1.0, whose nodes listen on the same channel while a deployment rolls.
 */
export type NodeMessage =
  /** The lease was released: a standby may claim it now. */
  | { readonly kind: 'released' }
  /** Changes were put back that had been parked: the active node reads them. */
  | { readonly kind: 'redriven' }
  /** A backfill was asked for, paused, resumed or cancelled: the active node looks. */
  | { readonly kind: 'backfill' }
  /** A node sends itself a marker, to learn whether notifications arrive and how far they have come. */
  | { readonly kind: 'marker'; readonly marker: string };

export const encodeNodeMessage = (message: NodeMessage): string =>
  message.kind === 'marker' ? message.marker : message.kind;

export const decodeNodeMessage = (payload: string): NodeMessage =>
  payload === 'released' || payload === 'redriven' || payload === 'backfill'
    ? { kind: payload }
    : { kind: 'marker', marker: payload };
