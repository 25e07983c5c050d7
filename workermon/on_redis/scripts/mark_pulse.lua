-- KEYS: pulse. ARGV: part, time, longest break, whether it is a judgement that begins.
local part, at = ARGV[1], tonumber(ARGV[2])
local began = tonumber(redis.call('HGET', KEYS[1], 'listener:since') or '')
if part == 'listener' then
  local had = tonumber(redis.call('HGET', KEYS[1], 'listener') or '')
  local away = not had or at - had > tonumber(ARGV[3])
  local set_back = had and had - at > tonumber(ARGV[3]) and ARGV[4] == '0'
  if away and (had or ARGV[4] == '0') or set_back then
    redis.call('HSET', KEYS[1], 'listener:since', ARGV[2])
  end
  if set_back then redis.call('HDEL', KEYS[1], 'collect:since') end
elseif part == 'collect' and began then
  local first = tonumber(redis.call('HGET', KEYS[1], 'collect:since') or '')
  if not first or first < began then redis.call('HSET', KEYS[1], 'collect:since', ARGV[2]) end
end
if ARGV[4] == '0' then redis.call('HSET', KEYS[1], part, ARGV[2]) end
return 1
