-- KEYS: workers, then each worker. ARGV: id, incarnation and spec of each.
local known = {}
for i = 2, #KEYS do
  local incarnation = redis.call('HGET', KEYS[i], 'incarnation')
  if incarnation and incarnation ~= ARGV[3 * i - 4] then known[#known + 1] = ARGV[3 * i - 5] end
end
if #known > 0 then return known end
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then
    redis.call('HSET', KEYS[i], 'incarnation', ARGV[3 * i - 4], 'spec', ARGV[3 * i - 3], 'seq', 0)
    redis.call('ZADD', KEYS[1], 0, ARGV[3 * i - 5])
  end
end
return known
