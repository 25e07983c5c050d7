-- Add a member to the cohort with the fewest members, or to a new one. Return its number as a string.
local function choose_cohort(cohort_prefix, group, cohort_size)
  local key = cohort_prefix .. group
  local number = redis.call('ZRANGEBYSCORE', key, '-inf', cohort_size - 1, 'LIMIT', 0, 1)[1]
  if not number then
    number = 0
    while redis.call('ZSCORE', key, number) do number = number + 1 end
  end
  redis.call('ZINCRBY', key, 1, number)
  return tostring(number)
end

-- Take a worker out of its cohort, "<account>/<region>/<interval>#<number>". Deletes a cohort without members.
local function leave_cohort(cohort_prefix, cohort)
  local group, number = string.match(cohort, '^(.*)#(%d+)$')
  if group and tonumber(redis.call('ZINCRBY', cohort_prefix .. group, -1, number)) <= 0 then
    redis.call('ZREM', cohort_prefix .. group, number)
  end
end

