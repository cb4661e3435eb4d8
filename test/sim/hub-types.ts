/** The hub's storage as the hub's own index shows it: what a group's store and its views can do. */
import { type Group } from '@rephub/hub';

export type GroupStore = NonNullable<Group['store']>;
export type View = Awaited<ReturnType<GroupStore['openView']>>;
