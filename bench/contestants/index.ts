import type { Contestant } from '../contestant.ts';
import { none } from './none.ts';
import { original } from './original.ts';
import { ours } from './ours.ts';
import { oursUnread } from './ours-unread.ts';
import { pgLogicalReplication } from './pg-logical-replication.ts';

export const contestants: Readonly<Record<string, Contestant>> = {
  none,
  original,
  ours,
  'ours-unread': oursUnread,
  'pg-logical-replication': pgLogicalReplication,
};
