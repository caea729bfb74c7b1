import type { Contestant } from '../contestant.ts';
import { oursBackfill, pgCopy, pgPages } from './existing-rows.ts';
import { graphileWorker } from './graphile-worker.ts';
import { handlersAlone } from './handlers-alone.ts';
import { none } from './none.ts';
import { original } from './original.ts';
import { oursUnread } from './ours-unread.ts';
import { ours, oursWithRows } from './ours.ts';
import { pgBoss } from './pg-boss.ts';
import { pgLogicalReplication, pgLogicalReplicationFull } from './pg-logical-replication.ts';
import { pgPubsub } from './pg-pubsub.ts';
import { pgTransactionalOutbox } from './pg-transactional-outbox.ts';
import { postgresSubscribe } from './postgres-subscribe.ts';
import { rowToJson } from './row-to-json.ts';

export const contestants: Readonly<Record<string, Contestant>> = {
  none,
  'handlers-alone': handlersAlone,
  original,
  ours,
  'ours-unread': oursUnread,
  'ours-rows': oursWithRows,
  'ours-backfill': oursBackfill,
  'pg-pages': pgPages,
  'pg-copy': pgCopy,
  'pg-pubsub': pgPubsub,
  outbox: pgTransactionalOutbox,
  'graphile-worker': graphileWorker,
  'pg-boss': pgBoss,
  'pg-logical-replication': pgLogicalReplication,
  'pg-logical-replication-full': pgLogicalReplicationFull,
  'row-to-json': rowToJson,
  postgres: postgresSubscribe,
};
