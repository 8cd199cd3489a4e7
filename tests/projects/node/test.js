require('node:assert').strictEqual(require('greeting')('test'), 'hello, test');
