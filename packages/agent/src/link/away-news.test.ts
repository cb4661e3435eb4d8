import { expect, test } from 'vitest';
import { AwayNews } from './away-news.js';

test('a reason is news once for each hub, and again when it changes', () => {
  const news = new AwayNews();
  expect(news.isNews('one', 'refused', 0)).toBe(true);
  expect(news.isNews('two', 'refused', 0)).toBe(true);
  expect(news.isNews('one', 'refused', 0)).toBe(false);
  expect(news.isNews('two', 'silent', 0)).toBe(true);
  expect(news.isNews('two', 'refused', 0)).toBe(true);
  expect(news.isNews('one', 'refused', 0)).toBe(false);
});

test('an outage after a session is another one', () => {
  const news = new AwayNews();
  expect(news.isNews('one', null, 1)).toBe(true);
  expect(news.isNews('one', null, 1)).toBe(false);
  expect(news.isNews('one', null, 2)).toBe(true);
});
