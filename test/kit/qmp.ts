/** QEMU's monitor protocol over a Unix socket: one JSON object per line, replies in order, events between them. */
import { connect, type Socket } from 'node:net';
import { waitUntil } from './wait.js';

interface Pending {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** One monitor connection. Failures carry QEMU's own text. */
export class Qmp {
  readonly #socket: Socket;
  readonly #pending: Pending[] = [];
  #partial = '';

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8').on('data', (text: string) => {
      const lines = (this.#partial + text).split('\n');
      this.#partial = lines.pop() ?? '';
      for (const line of lines) this.#receive(line);
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      for (const pending of this.#pending.splice(0)) pending.reject(new Error('QMP connection closed'));
    });
  }

  static async connect(path: string): Promise<Qmp> {
    const socket = await waitUntil(
      `QMP socket ${path}`,
      async () =>
        await new Promise<Socket | undefined>((resolve) => {
          const attempt = connect(path);
          attempt.once('error', () => {
            resolve(undefined);
          });
          attempt.once('connect', () => {
            resolve(attempt);
          });
        }),
    );
    const qmp = new Qmp(socket);
    await qmp.execute('qmp_capabilities');
    return qmp;
  }

  async execute(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    return await new Promise((resolve, reject) => {
      this.#pending.push({ resolve, reject });
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    });
  }

  close(): void {
    this.#socket.destroy();
  }

  #receive(line: string): void {
    if (line.trim() === '') return;
    const message = JSON.parse(line) as { return?: unknown; error?: { desc?: string } };
    if (message.error !== undefined) this.#pending.shift()?.reject(new Error(`QMP: ${message.error.desc ?? line}`));
    else if ('return' in message) this.#pending.shift()?.resolve(message.return);
  }
}
