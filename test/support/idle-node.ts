/** A process that makes an input, and leaves or closes it. When nothing is left to be done, it prints how many of its connections are open. */
import { Socket } from 'node:net';
import { newPostgresInput } from '../../src/index.ts';
import { PATIENT } from './consumer.ts';

const [connectionString, wakeup, ending] = process.argv.slice(2) as [string, 'notify' | 'poll', string];

const sockets: Socket[] = [];
const connect = Reflect.get(Socket.prototype, 'connect') as (...to: unknown[]) => Socket;
Reflect.set(Socket.prototype, 'connect', function (this: Socket, ...to: unknown[]) {
  sockets.push(this);
  return Reflect.apply(connect, this, to);
});

const input = await newPostgresInput(
  { name: 'idle', type: 'postgres', connectionString },
  { ...PATIENT, wakeup },
);
if (ending === 'close') await input.close();
process.once('beforeExit', () => console.log(sockets.filter(({ closed }) => !closed).length));
