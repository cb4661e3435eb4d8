/** Whether there is anything new to say of a hub that is away: its reason, once for each outage. Pure. */
export class AwayNews {
  /** By the hub's URL. */
  readonly #told = new Map<string, string | null>();
  #sessions = 0;

  /** `sessions`: how often records have flowed; after each of them everything is news again. Remembers what it was asked. */
  isNews(url: string, reason: string | null, sessions: number): boolean {
    if (sessions !== this.#sessions) this.#told.clear();
    this.#sessions = sessions;
    if (this.#told.has(url) && this.#told.get(url) === reason) return false;
    this.#told.set(url, reason);
    return true;
  }
}
