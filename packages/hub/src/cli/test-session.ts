/**
 * A failover test as its command sees it: opened at the hub, its lease renewed while checks run, dropped at
 * the end. If this process dies, the lease runs out and the hub drops the test by itself.
 */
import { type CommandContext, CommandFailure, refusalExitCode, requestJson } from '@rephub/command';
import { type Address, asError } from '@rephub/platform';
import { z } from 'zod';
import { readToken } from './token.js';

const LEASE_SECONDS = 30;
const RENEW_EVERY_MS = 8000;

const openedSchema = z.object({
  test: z.object({ name: z.string(), seq: z.number(), pointTime: z.string() }),
  pointAgeSeconds: z.number(),
  rpoSeconds: z.number().nullable(),
  rpoAtLeastSeconds: z.number(),
  state: z.string(),
  reason: z.string(),
  exports: z.array(z.object({ volume: z.string(), sizeBytes: z.number(), uris: z.array(z.string()) })),
});
export type OpenedTest = z.infer<typeof openedSchema>;

const errorSchema = z.object({ error: z.object({ code: z.string(), message: z.string() }) });
const renewedSchema = z.object({ test: z.object({ over: z.string().nullable() }) });

/** The hub will not, or cannot. */
class HubRefusal extends CommandFailure {
  readonly status: number;

  constructor(status: number, body: unknown) {
    const said = errorSchema.safeParse(body);
    super(refusalExitCode(status, body), said.success ? said.data.error.message : `the hub answered with ${status}`);
    this.name = 'HubRefusal';
    this.status = status;
  }
}

export class TestSession {
  readonly opened: OpenedTest;
  readonly #ask: Asker;
  readonly #path: string;
  #timer: NodeJS.Timeout | undefined;
  #renewing: Promise<void> = Promise.resolve();
  /** For good: the hub has said so. */
  #trouble: string | null = null;
  /** The last renewal got no answer. */
  #unanswered: string | null = null;
  #ended = false;

  /** Throws a HubRefusal, or the LinkFault of a hub that does not answer. */
  static async open(
    http: Address,
    context: CommandContext,
    order: { readonly group: string; readonly name: string | undefined },
  ): Promise<TestSession> {
    const ask = asker(http, context);
    const path = `/api/v1/groups/${encodeURIComponent(order.group)}/tests`;
    const body = { ...(order.name === undefined ? {} : { name: order.name }), leaseSeconds: LEASE_SECONDS };
    const opened = openedSchema.parse(await ask('POST', path, body));
    return new TestSession(opened, ask, `${path}/${encodeURIComponent(opened.test.name)}`);
  }

  private constructor(opened: OpenedTest, ask: Asker, path: string) {
    this.opened = opened;
    this.#ask = ask;
    this.#path = path;
    this.#renewLater();
  }

  /** What went wrong with the test since it was opened; null: nothing. */
  get trouble(): string | null {
    return this.#trouble ?? this.#unanswered;
  }

  /** Asks once more how the test is, so that an end that came during the last check is not missed. */
  async look(): Promise<void> {
    await this.#renew();
  }

  /** The test stays open at the hub without us. */
  async keep(): Promise<void> {
    await this.#stopRenewing();
    await this.#ask('POST', `${this.#path}/renew`, { keep: true });
  }

  /** Harmless when it is gone already. */
  async drop(): Promise<void> {
    await this.#stopRenewing();
    try {
      await this.#ask('DELETE', this.#path);
    } catch (thrown) {
      if (!(thrown instanceof HubRefusal && thrown.status === 404)) throw thrown;
    }
  }

  async #stopRenewing(): Promise<void> {
    this.#ended = true;
    clearTimeout(this.#timer);
    await this.#renewing;
  }

  #renewLater(): void {
    if (this.#ended) return;
    this.#timer = setTimeout(() => {
      this.#renewing = this.#renew().then(() => this.#renewLater());
    }, RENEW_EVERY_MS);
  }

  async #renew(): Promise<void> {
    try {
      const { test } = renewedSchema.parse(await this.#ask('POST', `${this.#path}/renew`, {}));
      this.#unanswered = null;
      if (test.over !== null) this.#trouble ??= `the test is over: ${test.over}`;
    } catch (thrown) {
      // One renewal may get lost, the lease lasts for three; a hub that has lost the test will not get it back.
      if (thrown instanceof HubRefusal) this.#trouble ??= thrown.message;
      else this.#unanswered = `the hub does not answer: ${asError(thrown).message}`;
    }
  }
}

type Asker = (method: 'POST' | 'DELETE', path: string, body?: object) => Promise<unknown>;

function asker(http: Address, context: CommandContext): Asker {
  return async (method, path, body) => {
    const answer = await requestJson({
      address: http,
      method,
      path,
      ...(body === undefined ? {} : { body }),
      token: readToken(context.environment),
      timeoutMs: 30_000,
    });
    if (answer.status >= 200 && answer.status < 300) return answer.body;
    throw new HubRefusal(answer.status, answer.body);
  };
}
