import type { Contestant } from '../contestant.ts';
import { graphileWorker } from './graphile-worker.ts';
import { none } from './none.ts';
import { original } from './original.ts';
import { oursUnread } from './ours-unread.ts';
import { ours } from './ours.ts';
import { pgBoss } from './pg-boss.ts';
import { pgLogicalReplication } from './pg-logical-replication.ts';
import { pgPubsub } from './pg-pubsub.ts';
import { pgTransactionalOutbox } from './pg-transactional-outbox.ts';
import { postgresSubscribe } from './postgres-subscribe.ts';

export const contestants: Readonly<Record<string, Contestant>> = {
  none,
  original,
  ours,
  'ours-unread': oursUnread,
  'pg-pubsub': pgPubsub,
  outbox: pgTransactionalOutbox,
  'graphile-worker': graphileWorker,
  'pg-boss': pgBoss,
  'pg-logical-replication': pgLogicalReplication,
  postgres: postgresSubscribe,
};
