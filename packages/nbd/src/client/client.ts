import type { Fault } from '@rephub/platform';
import type { Abilities, BlockDevice, BlockRequest, Limits } from '../block-device.js';

export class NbdClient implements BlockDevice {
  readonly sizeBytes: number;
  readonly abilities: Abilities;
  readonly limits: Limits;
  /** The export's full name and description, when the server told them. */
  readonly exportName: string;
  readonly description: string;
  constructor() {
    throw new Error('not built yet');
  }
  /** Requests submitted and not completed. */
  get inFlight(): number {
    return 0;
  }
  /** Why the connection is dead; null while it lives. */
  get fault(): Fault | null {
    return null;
  }
  /** On a dead or closing client the request is completed with ESHUTDOWN at once. */
  submit(request: BlockRequest): void {
    void request;
  }
  /**
   * The requests in flight in the order they were submitted, given back uncompleted and ready to be
   * submitted elsewhere. For `lost`; on a living connection it destroys it first.
   */
  takeUnfinished(): BlockRequest[] {
    return [];
  }
  /** Waits for what is in flight, says goodbye (NBD_CMD_DISC), closes. */
  close(): Promise<void> {
    throw new Error('not built yet');
  }
  /** Gone now: as if the connection had been lost, `lost` included. */
  destroy(fault: Fault): void {
    void fault;
  }
}
