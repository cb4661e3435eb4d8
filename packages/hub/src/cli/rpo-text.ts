/** The RPO as people read it. */
import { formatDuration } from '@rephub/command';
import type { GroupStatus } from '../group/group-status.js';

/**
 * What would be lost; `≥` where only that is known; `?` where nothing is: without a point that can be opened everything would
 * be lost, however young the oldest write is.
 */
export function rpoText(group: Pick<GroupStatus, 'rpoSeconds' | 'rpoAtLeastSeconds' | 'consistentSeq'>): string {
  if (group.rpoSeconds !== null) return formatDuration(group.rpoSeconds * 1000);
  if (group.consistentSeq === null || group.rpoAtLeastSeconds <= 0) return '?';
  return `≥ ${formatDuration(group.rpoAtLeastSeconds * 1000)}`;
}
