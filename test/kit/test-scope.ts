/** Binds a Scope to the running test: it is closed when the test has ended, passed or not. */
import { onTestFinished, type TestContext } from 'vitest';
import { Scope } from './scope.js';

/**
 * A scope that lives as long as the test that asks for it. Call it inside a test, not in a hook; with the context of
 * the test where several run at once.
 */
export function testScope(context: Pick<TestContext, 'onTestFinished'> = { onTestFinished }): Scope {
  const scope = new Scope();
  context.onTestFinished(async () => {
    await scope.close();
  }, 60_000);
  return scope;
}
