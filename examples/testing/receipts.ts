import type { ChangeEvent } from 'dapper-postgres-input';

export interface Tables {
  orders: { id: number; status: 'new' | 'paid'; email: string };
}

/** Sends a mail; one that has the same key is not sent twice. */
export interface Mailer {
  send(mail: { to: string; text: string; key: string }): Promise<void>;
}

/** Makes the handler that sends a receipt for every order that has been paid. */
export const receipts =
  (mailer: Mailer) =>
  async (event: ChangeEvent<Tables>): Promise<void> => {
    if (event.operation !== 'update' || event.before?.status === 'paid') return;
    if (event.after?.status !== 'paid') return;
    const { id, email } = event.after;
    await mailer.send({ to: email, text: `Order ${id} is paid.`, key: event.sequence! });
  };
