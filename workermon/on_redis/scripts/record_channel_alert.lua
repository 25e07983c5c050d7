-- KEYS: last, history, index, outbox, the alert's lanes, open alerts, state, each lane. ARGV: the id told last (''
-- for none), id, notification, entry of the history, alert, time, lifetime, entries kept, state ('' where it does not
-- fire), since when, feed ('' where nobody is told), the lanes' names.
local had = redis.call('GET', KEYS[1])
local last = had and string.match(had, '^(%S+) ') or ''
if last == ARGV[2] then return 1 end
if last ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2] .. ' ' .. ARGV[3], 'EX', ARGV[7])
redis.call('LPUSH', KEYS[2], ARGV[4])
redis.call('LTRIM', KEYS[2], 0, tonumber(ARGV[8]) - 1)
redis.call('EXPIRE', KEYS[2], ARGV[7])
redis.call('ZADD', KEYS[3], ARGV[6], ARGV[5])
redis.call('EXPIRE', KEYS[3], ARGV[7])
if ARGV[9] == '' then
  redis.call('ZREM', KEYS[6], ARGV[5])
  redis.call('DEL', KEYS[7])
else
  redis.call('ZADD', KEYS[6], ARGV[10], ARGV[5])
  redis.call('HSET', KEYS[7], 'alerts', ARGV[9])
end
if ARGV[11] ~= '' then redis.call('PUBLISH', ARGV[11], ARGV[3]) end
for place = 8, #KEYS do
  redis.call('RPUSH', KEYS[place], ARGV[3])
  redis.call('ZADD', KEYS[4], 'NX', ARGV[6], ARGV[place + 4])
  redis.call('SADD', KEYS[5], ARGV[place + 4])
end
return 1
