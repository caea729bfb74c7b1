import type { ClientConfig } from 'pg';

export type TargetSessionAttrs =
  | 'any'
  | 'read-write'
  | 'read-only'
  | 'primary'
  | 'standby'
  | 'prefer-standby';

/** Where a connection string leads. */
export interface ConnectionTarget {
  /** What to connect with, in the order to try. */
  readonly candidates: readonly ClientConfig[];
  /** Which kind of server will do. */
  readonly targetSessionAttrs: TargetSessionAttrs;
  /** `connect_timeout`, in milliseconds; absent: none was given. */
  readonly connectTimeout?: number;
  /** What must never be shown, as it was written and decoded. */
  readonly secrets: readonly string[];
}

export function parseConnectionString(text: string): ConnectionTarget {
  return { candidates: [{ connectionString: text }], targetSessionAttrs: 'any', secrets: [text] };
}
