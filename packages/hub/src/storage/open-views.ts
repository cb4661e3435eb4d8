/**
 * The views of one group that are open: made of a consistent point, and ended with the line that they show.
 *
 * Always holds: what a view reads is pinned from its opening until it has been closed (PIT); whoever loses a pin is told
 * why before the content goes.
 */
import { ConfigFault, type Logger } from '@rephub/platform';
import type { LineStore } from './line-store.js';
import type { ViewOptions } from './store-types.js';
import { PointContent } from './views/point-content.js';
import { PointView } from './views/view.js';

export class OpenViews {
  readonly #group: string;
  readonly #log: Logger;
  readonly #views = new Set<PointView>();

  constructor(group: string, log: Logger) {
    this.#group = group;
    this.#log = log;
  }

  get count(): number {
    return this.#views.size;
  }

  /** Of the newest consistent point of this line; throws a ConfigFault `no-consistent-point`, `unknown-point`. */
  open(main: LineStore | null, { at }: ViewOptions): PointView {
    const consistent = main?.timeline.lastGood ?? null;
    if (main === null || consistent === null) throw this.#noPoint();
    if (at !== undefined && at !== consistent) {
      throw new ConfigFault(
        'unknown-point',
        `number ${at} of group ${this.#group} cannot be opened; the newest is ${consistent}`,
      );
    }
    const { timeline, journal, base, applier } = main;
    let opened: PointView | null = null;
    const pin = timeline.pinLatest((why) => opened?.expire(why));
    if (pin === null) throw this.#noPoint();
    const view = new PointView({
      line: main.line.id,
      number: pin.number,
      timeUs: pin.timeUs,
      volumes: pin.volumes,
      content: new PointContent(timeline, journal, base, pin.number),
      log: this.#log,
      release: () => {
        timeline.unpin(pin);
        this.#views.delete(view);
        applier.poke();
      },
    });
    opened = view;
    this.#views.add(view);
    return view;
  }

  /** Their line goes: reads fail from now on. Resolves when none is open. */
  async closeAll(why: string): Promise<void> {
    for (const view of [...this.#views]) {
      view.expire(why);
      await view.close();
    }
  }

  #noPoint(): ConfigFault {
    return new ConfigFault('no-consistent-point', `group ${this.#group} has no consistent point yet`);
  }
}
